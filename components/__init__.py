"""What pilotlight declares: a room for each part, with the text that the part ships beside it."""
