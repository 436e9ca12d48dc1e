-- The sample database: a small company. Good for PostgreSQL and SQLite, as often as one likes.

CREATE TABLE IF NOT EXISTS employees (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    department TEXT NOT NULL,
    hired_on DATE NOT NULL,
    salary NUMERIC(10, 2) NOT NULL,
    manager_id INTEGER REFERENCES employees (id)
);

CREATE TABLE IF NOT EXISTS projects (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    lead_id INTEGER NOT NULL REFERENCES employees (id),
    started_on DATE NOT NULL,
    ended_on DATE
);

CREATE TABLE IF NOT EXISTS project_members (
    project_id INTEGER NOT NULL REFERENCES projects (id),
    employee_id INTEGER NOT NULL REFERENCES employees (id),
    role TEXT NOT NULL,
    PRIMARY KEY (project_id, employee_id)
);

INSERT INTO employees (id, name, email, department, hired_on, salary, manager_id) VALUES
    (1, 'Ada Osei', 'ada@example.com', 'Engineering', '2019-03-04', 128000.00, NULL),
    (2, 'Bruno Keller', 'bruno@example.com', 'Engineering', '2020-09-14', 104500.00, 1),
    (3, 'Chiara Russo', 'chiara@example.com', 'Design', '2021-01-11', 92750.50, 1),
    (4, 'Dmitri Volkov', 'dmitri@example.com', 'Operations', '2022-06-01', 88000.00, 1),
    (5, 'Emi Tanaka', 'emi@example.com', 'Engineering', '2024-02-19', 79500.00, 2)
ON CONFLICT DO NOTHING;

INSERT INTO projects (id, name, lead_id, started_on, ended_on) VALUES
    (1, 'Harbour', 1, '2023-04-03', NULL),
    (2, 'Lighthouse', 3, '2024-01-15', NULL),
    (3, 'Breakwater', 2, '2022-02-07', '2023-11-30')
ON CONFLICT DO NOTHING;

INSERT INTO project_members (project_id, employee_id, role) VALUES
    (1, 2, 'developer'),
    (1, 4, 'operator'),
    (2, 3, 'designer'),
    (2, 5, 'developer'),
    (3, 5, 'tester')
ON CONFLICT DO NOTHING;
