"""What live nodes stand on: the newest input wins, one thread computes, nothing goes quiet."""
