"""SavedModels, warm-up requests and the client of a model server."""
