"""The digital PSR phantom: anatomy, physics, lesions, acquisition and cohort writer."""
