-- The number of a job's array: its own for a single job.
ALTER TABLE job ADD COLUMN array_id INTEGER NOT NULL DEFAULT 0;
UPDATE job SET array_id = id;
CREATE INDEX job_by_array ON job (array_id, id);
