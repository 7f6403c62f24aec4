// Package arc opens and closes sites by the routing controls of Amazon
// Application Recovery Controller (ARC), formerly Route 53 ARC: a
// [provider.TrafficSwitch].
//
//	controls, err := arc.Open(ctx, arc.Config{
//		Endpoints: []arc.Endpoint{{URL: "https://0123abcd.us-east-1.example.com/v1", Region: "us-east-1"}, ...}, // all five
//		Controls: map[string]string{
//			"us-east": "arn:aws:route53-recovery-control::111122223333:controlpanel/0123/routingcontrol/4567",
//			"eu-west": "arn:aws:route53-recovery-control::111122223333:controlpanel/0123/routingcontrol/89ab",
//		}})
//	now, err := controls.State(ctx)
//	err = controls.Switch(ctx, now, provider.TrafficState{Sites: []string{"eu-west"}})
//
// A routing control is a health check that a person or a program sets. Records
// of Route 53 with that health check follow it, in seconds and by the data plane
// of Route 53 alone: no zone is changed. Clusters, control panels, routing
// controls, safety rules and those records are made beforehand, with other
// tools; this package makes none.
//
// # Data plane
//
// A cluster has endpoints in five regions, and works while three of them do. One
// of them, chosen by chance, is asked first and kept while it answers; one that
// is unavailable, throttles, breaks, or says nothing for Config.Timeout is
// followed by the next, twice round. Nothing else is asked: no other region, no
// control plane. Keep the credentials free of that, too: a long-lived key of a
// user for this purpose, or a role that the program holds already.
//
// # How a switch is made
//
// One ListRoutingControls of the control panel says what is; one
// UpdateRoutingControlStates sets all routing controls of the switch, also those
// that are to stay as they are. The cluster makes that change as a whole or
// refuses it. It compares nothing and has no place for an owner or an epoch:
// [provider.TrafficTraits].Compared and Marked are false. Of callers that race
// the last one stays, and safety rules of the cluster, which hold whoever calls,
// say which states there can be at all. After a change the cluster is read
// until it shows it, for half a minute at most.
//
// If a reply is lost, the next endpoint is read before anything is sent again.
//
// A refusal (ConflictException) is [provider.ErrConflict] if the state is no
// longer what it was, is tried again twice, since ARC says the same of changes
// that meet, and is [provider.ErrRefused] after that, with what the cluster
// said: a safety rule is against it. Rules are never overridden from here; who
// must break the glass does so by the console or the CLI.
//
// # What the credential must be allowed
//
// route53-recovery-cluster:ListRoutingControls on the control panel, and
// route53-recovery-cluster:UpdateRoutingControlStates on the routing controls.
//
// # What is not proven
//
// There is no emulator, and the SDK's module for this service is not used: its
// three operations are JSON, signed by the core of the SDK. The suite runs on five
// endpoints in the tests that check each signature, and each message against
// AWS's own model of the API; the requests of a switch are asserted to the
// letter. Not seen on AWS: the status of its errors, whether an endpoint reads
// back at once what another has agreed to, what an UpdateRoutingControlStates of
// states that are as they should be does under a gating rule, how many states
// one call takes. The same suite runs on a control panel of yours, moves what it
// controls, and moves it back; the file holds Endpoints and Controls as JSON:
//
//	HOLDFAST_AWS_ARC=arc.json go test ./provider/aws/arc -run TestAWS -v
package arc
