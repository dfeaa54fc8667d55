"""Fine-tuning of vision-language models on verified anomalies."""
