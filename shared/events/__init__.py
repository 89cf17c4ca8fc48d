"""The facts and commands that travel: envelope, a module per family, the CloudEvents codec."""
