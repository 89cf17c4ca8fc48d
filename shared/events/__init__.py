"""The facts and commands that travel: envelope, one module per family, and the CloudEvents codec."""
