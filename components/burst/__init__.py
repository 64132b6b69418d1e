"""The burst lane: the same model on a GPU in the cloud that costs nothing while nobody needs it.

Owns: the Cloud Run service (`service`), its container (`container`) and network (`network`), the bucket with its job
(`weights`) and the job's program (`fetch_weights`). Does not own: when burst is woken and which requests it gets
(`gateway`).
"""
