"""What demist says: figures, the HTML report, the methods text and its references."""
