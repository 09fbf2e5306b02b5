"""The data plane: calls from clients to providers. The way of a call, from its route to settled spend:

     1  fast_path.py, or routes/openai.py    the way in: the body within its limits, the reply, the client that leaves
     2  auth/guard.py                        who calls, by the key
     3  call.py                              the call as its headers say it
     4  gateway.py                           the story: admission, candidates, attempts, settlement
     5  protocols/openai/request.py          the body in its dialect's words, and what the provider gets of it
     6  admission.py                         may it run: model access, budgets, limits
     7  spend/budget.py                      what is held for it
     8  call_record.py                       what is known of the call, until it ends once
     9  call_spend.py                        its money: what is held, what it cost, its event
    10  routing/router.py                    which deployments of the group, in which order
    11  attempt.py                           one exchange with one deployment
    12  upstream/client.py                   over HTTP
    13  streaming.py                         a stream from its first frame to its last
    14  answer_headers.py                    what its client is told of it
    15  spend/ledger.py                      written down

A whole answer is written down before its headers are made; a stream when its end was read.
A failed attempt also passes routing/retries.py and routing/fallbacks.py, which decide what comes next.

Its shapes, each made once and handed on:

    Call               who, which operation, the raw body, what the headers said         (call.py)
    ClientRequest      the body, read by its dialect                                     (protocols/dialect.py)
    AdmissionRequest   what admission looks at, per group                                (admission.py)
    Reservation        what it holds of budgets and limits                               (spend/budget.py)
    RoutedCall         the admitted call on its way from group to group                  (gateway.py)
    RoutingRequest     what routing looks at, per group                                  (routing/router.py)
    Exchange           what a provider of a dialect is sent; mostly the request itself   (protocols/dialect.py)
    Answer             the provider's open answer                                        (upstream/client.py)
    Reply              what the edge sends                                               (call.py)
    CallRecord         times, money, headers; ends as a SpendEvent and an EndedCall      (call_record.py)
"""
