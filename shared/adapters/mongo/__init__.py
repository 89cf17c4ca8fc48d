"""Documents in MongoDB: one collection each, every change one write of one document."""
