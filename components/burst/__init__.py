"""The burst lane: the same model on a GPU in the cloud that costs nothing while nobody needs it."""
