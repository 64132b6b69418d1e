"""What pilotlight declares: one module or small package per component, with the text it ships beside it."""
