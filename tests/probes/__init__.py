"""The probe suite: what a check may not do, tried in every backend, and the same tried outside as the control.

`inside` and `calls` run in the sandbox; `host` stands beside it and sees what arrived; `rows` says what must come out;
`limits` holds the runs that end at a limit; `driver` runs all of it for one backend under one user; `situations` starts
the driver as root, as an ordinary user and as in a pod; `mutations` takes the guards away one by one.
"""
