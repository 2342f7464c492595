"""How good everything is, on points and truths that nothing was made of."""
