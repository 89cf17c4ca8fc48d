"""Settings to adapters: the one place that knows which engine stands behind which port."""
