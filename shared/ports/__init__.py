"""What the functions need of the outside world, one Protocol per file, in our own words."""
