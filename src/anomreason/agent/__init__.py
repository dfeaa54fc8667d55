"""AnomAgent: agents over any vision-language model that find and explain semantic anomalies."""
