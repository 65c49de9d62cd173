"""From logits to tokens: sampling, stopping, and the loop over a batch."""
