"""What providers keep and run for clients: files and batches, under ids of our own."""
