BEGIN TRANSACTION;
CREATE TABLE change (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	before_id INTEGER, 
	after_id INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES model (id), 
	FOREIGN KEY(before_id) REFERENCES version (id), 
	FOREIGN KEY(after_id) REFERENCES version (id)
);
INSERT INTO "change" VALUES(1,1,'registered','',NULL,1,'ann','First: ünï
"quoted"',1795283031446668);
INSERT INTO "change" VALUES(2,1,'registered','',NULL,2,'bob','',1795283031480587);
INSERT INTO "change" VALUES(3,2,'registered','',NULL,3,'ann','',1795283031509059);
INSERT INTO "change" VALUES(4,1,'promoted','production',NULL,1,'ann','first',1795283031518390);
INSERT INTO "change" VALUES(5,1,'promoted','production',1,2,'bob','',1795283031541249);
INSERT INTO "change" VALUES(6,1,'rolled back','production',2,1,'ann','drift',1795283031562316);
INSERT INTO "change" VALUES(7,1,'yanked','',NULL,2,'ann','bad labels',1795283031581763);
INSERT INTO "change" VALUES(8,2,'yanked','',NULL,3,'ann','',1795283031597393);
INSERT INTO "change" VALUES(9,2,'unyanked','',NULL,3,'ann','good after all',1795283031612723);
CREATE TABLE file (
	version_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	digest TEXT NOT NULL, 
	PRIMARY KEY (version_id, path), 
	FOREIGN KEY(version_id) REFERENCES version (id)
);
INSERT INTO "file" VALUES(1,'w.bin',7,'sha256:9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c');
INSERT INTO "file" VALUES(2,'w.bin',5,'sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa');
INSERT INTO "file" VALUES(3,'w.bin',5,'sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa');
CREATE TABLE mlc_registry_revision (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT mlc_registry_revision_pkc PRIMARY KEY (version_num)
);
INSERT INTO "mlc_registry_revision" VALUES('0001');
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_model_name UNIQUE (name)
);
INSERT INTO "model" VALUES(1,'net');
INSERT INTO "model" VALUES(2,'cat');
CREATE TABLE stage (
	model_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	version_id INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (model_id, name), 
	FOREIGN KEY(model_id) REFERENCES model (id), 
	FOREIGN KEY(version_id) REFERENCES version (id)
);
INSERT INTO "stage" VALUES(1,'production',1,'ann','drift',1795283031562316);
CREATE TABLE version (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	sort_key BLOB NOT NULL, 
	prerelease BOOLEAN NOT NULL, 
	digest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	directory TEXT NOT NULL, 
	entry TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	description TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	yanked BOOLEAN NOT NULL, 
	yank_reason TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_version_model_id_sort_key UNIQUE (model_id, sort_key), 
	FOREIGN KEY(model_id) REFERENCES model (id)
);
INSERT INTO "version" VALUES(1,1,'1.0.0',X'01010000FF',0,'sha256:95e6e8c9ba4e6d54eb7803b670833ee580f7fefcc1d1d98147fa7b80fdf3ec20',7,'net/1.0.0','w.bin','{"dice":0.9}','First: ünï
"quoted"',1795283031446668,'ann',0,'');
INSERT INTO "version" VALUES(2,1,'1.1.0+b5',X'0101010100FF',0,'sha256:ca0e660b311ee0add17d781cb9a46721a6d85979f4d9ed9dc9556e6f4db04f77',5,'net/1.1.0+b5','w.bin','{}','',1795283031480587,'bob',1,'bad labels');
INSERT INTO "version" VALUES(3,2,'2.0.0-rc.1',X'01020000010372630002010100',1,'sha256:ca0e660b311ee0add17d781cb9a46721a6d85979f4d9ed9dc9556e6f4db04f77',5,'cat/2.0.0-rc.1','w.bin','{}','',1795283031509059,'ann',0,'');
CREATE UNIQUE INDEX ux_model_folded_name ON model (lower(name));
CREATE INDEX ix_version_release ON version (model_id, sort_key) WHERE prerelease = 0 AND yanked = 0;
CREATE INDEX ix_version_newest ON version (model_id, id) WHERE yanked = 0;
CREATE INDEX ix_change_model ON change (model_id, id);
CREATE TRIGGER version_is_immutable BEFORE UPDATE OF id, model_id, version, sort_key, prerelease, digest, size, directory, entry, metadata, description, created_at, created_by ON version BEGIN SELECT RAISE(ABORT, 'a published version is never edited'); END;
CREATE TRIGGER model_is_kept BEFORE DELETE ON model BEGIN SELECT RAISE(ABORT, 'no model is ever deleted'); END;
CREATE TRIGGER version_is_kept BEFORE DELETE ON version BEGIN SELECT RAISE(ABORT, 'no version is ever deleted'); END;
CREATE TRIGGER file_is_kept BEFORE DELETE ON file BEGIN SELECT RAISE(ABORT, 'no file is ever deleted'); END;
CREATE TRIGGER change_is_kept BEFORE DELETE ON change BEGIN SELECT RAISE(ABORT, 'no change is ever deleted'); END;
CREATE TRIGGER model_is_fixed BEFORE UPDATE ON model BEGIN SELECT RAISE(ABORT, 'no model is ever edited'); END;
CREATE TRIGGER file_is_fixed BEFORE UPDATE ON file BEGIN SELECT RAISE(ABORT, 'no file is ever edited'); END;
CREATE TRIGGER change_is_fixed BEFORE UPDATE ON change BEGIN SELECT RAISE(ABORT, 'no change is ever edited'); END;
COMMIT;
