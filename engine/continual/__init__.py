"""How a trained model takes in what is new without losing what it knew."""
