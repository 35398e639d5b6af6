module safe-ai.dev/foreign

go 1.23

require (
	github.com/transparency-dev/merkle v0.0.2
	golang.org/x/mod v0.23.0
)
