"""Ways of speaking to a message broker; each is imported when a profile needs it."""
