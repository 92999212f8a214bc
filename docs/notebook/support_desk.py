"""The notebook of the documentation: a support desk forgets a customer. docs/site/notebook_page.py shows it."""

# %% [markdown]
# ## The examples
#
# The package ships 320 messages to a support desk, from 60 customers. Each has one of ten labels. A language model is
# to label new messages, and these examples show it how.

# %%
from importlib.resources import files

from erase_core import Erase, read_examples, verify_receipts

desk = read_examples(files("erase_core.demo") / "examples.jsonl").examples
labels = sorted({example.output for example in desk})
print(len(desk), "examples,", len({example.subject for example in desk}), "customers")
print("labels:", ", ".join(labels))
desk[0]

# %% [markdown]
# ## A store
#
# The receipts go to a folder of their own, so that an old copy of the store is detected.

# %%
erase = Erase.create("store", receipts="receipts", options=labels, n_shots=4)
print(erase.ingest(desk))

# %% [markdown]
# ## Ask
#
# A question is shown the four examples that are nearest to it. `choose` returns the label that the model prefers after
# it has read them.

# %%
question = "The zip of my new tent broke on the first evening."
before = erase.choose(question)
print(before.option)
for example in erase.demonstrations(question):
    print(f"{example.id}  {example.subject:12} {example.output:14} {example.input}")

# %% [markdown]
# ## Forget
#
# One of these customers wants to be forgotten: the one whose message is nearest to the question. It is shown last.
# `dry_run` shows what would change, and changes nothing.

# %%
nearest = erase.demonstrations(question)[-1]
customer = nearest.subject
theirs = [example for example in desk if example.subject == customer]
print(erase.forget(subject=customer, dry_run=True))

# %%
report = erase.forget(subject=customer)
print(report)

# %% [markdown]
# The next question is answered without the customer's examples. Others have taken their places.

# %%
print(erase.choose(question).option)
for example in erase.demonstrations(question):
    print(f"{example.id}  {example.subject:12} {example.output:14} {example.input}")
assert nearest not in erase.demonstrations(question)

# %% [markdown]
# ## Compare with a store that never saw the customer
#
# The digest is a hash of the whole model. Equal digests mean: equal, bit for bit.

# %%
fresh = Erase.create("fresh", options=labels, n_shots=4)
fresh.ingest([example for example in desk if example.subject != customer])
print("forgotten: ", erase.status().digest)
print("never seen:", fresh.status().digest)
assert erase.status().digest == fresh.status().digest
assert erase.prompt(question).text == fresh.prompt(question).text

# %% [markdown]
# ## Verify
#
# `verify` computes the model again by a second implementation, checks rows and receipts, and searches all files of the
# store for the texts that must be gone, and for their vectors.

# %%
verification = erase.verify(absent=[example.input for example in theirs])
print(verification)
assert verification.ok

# %% [markdown]
# ## The receipt
#
# The removal left a receipt. It has hashes and counts, but no id and no text. Anyone can check it, without the store.

# %%
receipt = report.receipt
print(receipt.number, receipt.hash)
print(receipt.time, receipt.path, "examples before and after:", receipt.n_before, receipt.n_after)
print(verify_receipts("receipts", head=(receipt.number, receipt.hash)))

# %% [markdown]
# The list of what was forgotten consists of keyed hashes. So the source can be ingested again, and the customer stays
# out.

# %%
print(erase.ingest(desk, on_forgotten="skip", on_duplicate="skip"))
assert not [example for example in erase.examples() if example.subject == customer]
erase.close()
fresh.close()
