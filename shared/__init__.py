"""What the functions and the gateway stand on: values, events, ports, adapters and the runtime."""
