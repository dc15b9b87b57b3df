-- Tables of the `mlops` database. Run by its owner at every start, so each statement can be repeated.

create table if not exists trial (
    search      text not null,                       -- the parent run's id
    tid         integer not null check (tid >= 0),
    vals        jsonb not null,                      -- hyperopt's label -> value, as asked
    params      jsonb not null,                      -- the same as the user's flat parameters
    asked_at    timestamptz not null default now(),
    attempts    integer not null default 0,          -- fits begun
    deaths      integer not null default 0,          -- of them, those that killed their process
    outcome     text check (outcome in ('finished', 'failed', 'killed')),
    loss        double precision,                    -- lower is better; only of a finished trial
    figure      double precision,                    -- the metric that the search compares, of a finished trial
    metrics     jsonb,
    error       text,
    curves      jsonb not null default '{}',         -- figures of each epoch, by name
    warnings    text,                                -- what the libraries warned of during the fit
    began_at    timestamptz,
    ended_at    timestamptz,
    run_id      text,                                -- the child run, once published
    published   boolean not null default false,
    primary key (search, tid)
);

create or replace function trial_once() returns trigger language plpgsql as $$
begin
    if old.outcome is not null and (new.outcome, new.loss, new.vals) is distinct from (old.outcome, old.loss, old.vals) then
        raise exception 'trial % of % is already recorded', old.tid, old.search;
    end if;
    return new;
end $$;
create or replace trigger trial_once before update on trial for each row execute function trial_once();

create table if not exists ledger (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    pipeline     text not null,
    kind         text not null check (kind in ('decision', 'intent', 'moved', 'undone', 'refused', 'deployed')),
    actor        text not null,                      -- who: a DAG run, a user of the command line
    from_version integer,
    to_version   integer,
    reason       text not null,
    evidence     jsonb not null default '{}',
    key          text not null unique                -- what makes a repeated write the same write
);
create index if not exists ledger_pipeline on ledger (pipeline, id);
