"""From the data people already have to the input topics: mapping documents, readers, and the loop that joins them."""
