"""What an encoder is used for, with the floors that it has to beat."""
