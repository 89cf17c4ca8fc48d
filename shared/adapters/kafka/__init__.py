"""The event log on Kafka, for as many processes as there is work for."""
