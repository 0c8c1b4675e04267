package main

// A database of two tables in memory, for the statements of the feed's snippet, with transactions that are rolled back.

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"strings"
)

type tables struct {
	after  int64
	grants map[[2]string]bool
}

type connection struct {
	tables
	before tables
}

type statement struct {
	*connection
	query string
}

type cursor struct {
	after  int64
	isRead bool
}

var only = &connection{tables: tables{grants: map[[2]string]bool{}}}

type memory struct{}

func init() { sql.Register("memory", memory{}) }

func (memory) Open(string) (driver.Conn, error) { return only, nil }

func (c *connection) Prepare(query string) (driver.Stmt, error) { return statement{c, query}, nil }
func (c *connection) Close() error                              { return nil }
func (c *connection) Commit() error                             { c.before = tables{}; return nil }

func (c *connection) Begin() (driver.Tx, error) {
	copied := map[[2]string]bool{}
	for key := range c.grants {
		copied[key] = true
	}
	c.before = tables{c.after, copied}
	return c, nil
}

func (c *connection) Rollback() error {
	c.tables = c.before
	return nil
}

func (s statement) Close() error  { return nil }
func (s statement) NumInput() int { return -1 }

func (s statement) Exec(values []driver.Value) (driver.Result, error) {
	switch {
	case strings.HasSuffix(s.query, "ON CONFLICT (transaction_id, kind) DO NOTHING"):
		key := [2]string{values[0].(string), values[1].(string)}
		if s.grants[key] {
			return driver.RowsAffected(0), nil
		}
		s.grants[key] = true
	case s.query == "UPDATE coinslot_cursor SET after = $1 WHERE after < $1":
		if after := values[0].(int64); s.after < after {
			s.after = after
		}
	case s.query == "UPDATE coinslot_cursor SET after = 0":
		s.after = 0
	default:
		return nil, fmt.Errorf("the test's database does not know: %s", s.query)
	}
	return driver.RowsAffected(1), nil
}

func (s statement) Query([]driver.Value) (driver.Rows, error) {
	if s.query != "SELECT after FROM coinslot_cursor" {
		return nil, fmt.Errorf("the test's database does not know: %s", s.query)
	}
	return &cursor{after: s.after}, nil
}

func (c *cursor) Columns() []string { return []string{"after"} }
func (c *cursor) Close() error      { return nil }

func (c *cursor) Next(row []driver.Value) error {
	if c.isRead {
		return io.EOF
	}
	c.isRead, row[0] = true, c.after
	return nil
}
