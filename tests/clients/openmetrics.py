"""Reads metrics as Prometheus does, with its own library for Python (PyPI `prometheus-client`).

Reads lines of JSON {text}, answers each with a line of JSON {value: [{name, type, samples: [[name, labels, value]]}]} or {error}.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

for line in sys.stdin:
    try:
        families = [
            {
                "name": family.name,
                "type": family.type,
                "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
            }
            for family in text_string_to_metric_families(json.loads(line)["text"])
        ]
        answer = {"value": families}
    except ValueError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
