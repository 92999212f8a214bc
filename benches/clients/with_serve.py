"""`erase serve` in front of a model server, asked by the client of OpenAI."""

import os
import re
import subprocess

from openai import OpenAI

command = ["erase", "serve", "--port", "0", "--upstream", os.environ["MODEL_SERVER"]]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
    address = re.search(r"http\S+/v1", server.stderr.readline())[0]
    client = OpenAI(base_url=address, api_key="none")
    messages = [{"role": "user", "content": "where is my parcel?"}]
    print(client.chat.completions.create(model="any", messages=messages).choices[0].message.content, flush=True)
    server.terminate()
