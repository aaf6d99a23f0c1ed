"""A recorded RGB-D folder or bag, played as the topics of a live camera."""
