"""Records of evaluations, studies and inference, and their JSON files."""
