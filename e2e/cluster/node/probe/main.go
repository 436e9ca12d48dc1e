// Asks and answers from inside a pod, where an image has no shell.
//
//	probe sleep              until it is told to stop
//	probe serve ADDRESS      answers every request with the pod's name
//	probe resolve NAME       prints its addresses
//	probe connect ADDRESS    fails if nobody listens there
//	probe get URL            prints the status and the body
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const deadline = 5 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	command, operand := "sleep", ""
	if len(arguments) > 0 {
		command = arguments[0]
	}
	if len(arguments) > 1 {
		operand = arguments[1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	switch command {
	case "sleep":
		wait()
		return nil
	case "serve":
		return serve(operand)
	case "resolve":
		return resolve(ctx, operand)
	case "connect":
		return connect(ctx, operand)
	case "get":
		return get(ctx, operand)
	}
	return fmt.Errorf("unknown command %q", command)
}

func wait() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
}

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	answer := func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(response, "%s %s\n", name, request.URL.Path)
	}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(answer)}
	go func() {
		wait()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func resolve(ctx context.Context, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

func connect(ctx context.Context, address string) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode)
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
