"""What BIDS means to demist: queries and pairing, names, data set metadata, participants."""
