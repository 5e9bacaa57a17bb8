"""What is measured on a region: hand-crafted radiomics and the encoder's embedding, as named numbers."""
