create table if not exists orders (number integer primary key);
create table if not exists mails (number integer primary key, begun timestamptz not null default now(), sent timestamptz);
