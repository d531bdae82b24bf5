"""Arrays and NIfTI images, without nipype and without BIDS."""
