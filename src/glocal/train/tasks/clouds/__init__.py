"""What would be seen without the cloud."""
