"""mmjax: cross-attention multimodal transformers in JAX and Flax linen."""
