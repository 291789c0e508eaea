-- The application's own tables. Those of the outbox are the Migrator's.
CREATE TABLE servers (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text NOT NULL UNIQUE,
    region    text NOT NULL,
    size      text NOT NULL,
    booted_at timestamptz
);

-- No reference to servers and nothing unique, here and below: these tables must be able to show a broken promise.
CREATE TABLE boots (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server_id  bigint NOT NULL,
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    worker_pid integer NOT NULL,
    booted_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Each start of a handler, written on a connection of its own: it stays when the attempt's transaction does not.
CREATE TABLE attempts (
    job_id     uuid NOT NULL,
    server_id  bigint NOT NULL,
    attempt    integer NOT NULL,
    worker_pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A job whose server was not there: the failure that the talk begins with.
CREATE TABLE not_found (
    job_id    uuid NOT NULL,
    server_id bigint NOT NULL
);

-- What the enqueuing process knows of its own transactions; the report compares it with what the database kept.
CREATE TABLE ledger (
    server_id bigint NOT NULL,
    committed boolean NOT NULL,
    ended_at  timestamptz NOT NULL
);

-- What the killed worker held when it died.
CREATE TABLE held_at_kill (
    job_id    uuid NOT NULL,
    killed_at timestamptz NOT NULL
);
