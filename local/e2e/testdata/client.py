"""Calls the API with the client that was generated into the package market_data. Its argument is the URL of the gateway."""

import os
import sys

from market_data import AuthenticatedClient, Client
from market_data.api.averages import latest_average
from market_data.api.dead_letters import list_letters
from market_data.api.polling_jobs import create_job, delete_job, show_job
from market_data.api.prices import latest_price
from market_data.api.stream import stream_averages
from market_data.models import LatestPriceProvider, PollCreateRequestBody

client = Client(base_url=sys.argv[1])
operator = AuthenticatedClient(base_url=sys.argv[1], token=os.environ["DLQ_TOKEN"])

price = latest_price.sync(client=client, symbol="AAPL", provider=LatestPriceProvider.YFINANCE)
assert price.symbol == "AAPL" and price.price > 0, price
batch = latest_price.sync(client=client, symbols=["AAPL,NOPE"], provider=LatestPriceProvider.YFINANCE)
assert batch.prices["AAPL"].price == price.price, batch
assert batch.errors["NOPE"].code == "symbol_not_found", batch
average = latest_average.sync(client=client, symbol="AAPL", provider="yfinance")
assert average.window == 5 and average.points_used >= 1, average
created = create_job.sync(client=client, body=PollCreateRequestBody(symbols=["AAPL"], provider="yfinance"))
assert show_job.sync(client=client, job_id=created.job_id).config.interval == 60, created
assert delete_job.sync_detailed(client=client, job_id=created.job_id).status_code == 204
assert show_job.sync(client=client, job_id=created.job_id).code == "job_not_found"
assert "event: series" in stream_averages.sync(client=client, symbols=["AAPL"], provider="yfinance")
assert list_letters.sync(client=client).code == "unauthorized"
assert list_letters.sync(client=operator).messages
print("all calls succeeded")
