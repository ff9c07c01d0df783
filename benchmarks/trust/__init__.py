"""How far confidences and covariances can be trusted."""
