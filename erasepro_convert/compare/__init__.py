"""A comparison of methods: each converts, draws and is judged by one recipe."""
