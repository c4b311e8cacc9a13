"""A NumPyro model of the user's own in the likelihood's place: it asks for simulations, and says what data are."""
