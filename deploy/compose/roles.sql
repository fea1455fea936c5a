-- The login roles and databases that `payments stack up` makes without Docker. What each may do, the migrations grant.
CREATE ROLE payments_owner LOGIN PASSWORD 'payments';
CREATE ROLE payments_sink LOGIN PASSWORD 'payments';
CREATE ROLE payments_gateway LOGIN PASSWORD 'payments';
CREATE ROLE payments_reader LOGIN PASSWORD 'payments';
CREATE ROLE payments_webhooks LOGIN PASSWORD 'payments';
CREATE ROLE payments_debezium LOGIN REPLICATION PASSWORD 'payments';
CREATE DATABASE payments OWNER payments_owner;
CREATE DATABASE registry OWNER payments_owner;
