"""lm-evaluation-harness: a task whose few-shot examples are a store's, with the harness's own dummy model."""

import datasets
from erase_core import Erase
from erase_core.integrations.lm_eval import sampler_of
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def questions(**_):
    rows = [{"input": "where is my parcel?", "output": "delivery"}, {"input": "refund me", "output": "refund"}]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


with Erase.open("store") as erase:
    task = {
        "task": "desk",
        "custom_dataset": questions,
        "test_split": "test",
        "fewshot_split": "test",
        "num_fewshot": erase.settings.n_shots,
        "fewshot_config": {"sampler": sampler_of(erase)},
        "doc_to_text": "Q: {{input}}\nA:",
        "doc_to_target": "{{output}}",
        "output_type": "multiple_choice",
        "doc_to_choice": ["delivery", "refund"],
    }
    tasks = TaskManager(include_defaults=False)
    results = simple_evaluate("dummy", tasks=[task], task_manager=tasks, log_samples=False, bootstrap_iters=0)
    print(results["results"]["desk"]["acc,none"])
