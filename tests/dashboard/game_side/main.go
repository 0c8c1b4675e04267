// A game server made of the snippets: what tests/dashboard/test_game_side.py runs.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	coinslot "game/feed"
	webhook "game/webhook"
)

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	switch os.Args[1] {
	case "listen":
		listen(os.Args[2])
	case "entry":
		address, err := entries[os.Args[2]](os.Args[3], os.Args[4]) // the test writes entries.go
		check(err)
		fmt.Println(address)
		return
	}
	db, err := sql.Open("memory", "")
	check(err)
	read(db)
	_, err = db.Exec("UPDATE coinslot_cursor SET after = 0")
	check(err)
	read(db) // all of it again: nothing new is given
	fmt.Println("read twice")
}

func read(db *sql.DB) {
	for {
		hasMore, err := coinslot.ReadPage(context.Background(), db)
		check(err)
		if !hasMore {
			return
		}
	}
}

func listen(port string) {
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		check(err)
		event, err := webhook.Verify(request.Header, body)
		if err != nil {
			http.Error(response, err.Error(), http.StatusUnauthorized)
			return
		}
		fmt.Printf("taken %s %s\n", event.Type, event.Data)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	check(err)
	fmt.Println("listening")
	check(http.Serve(listener, nil))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
