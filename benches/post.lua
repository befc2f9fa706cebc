-- wrk's request: POST the file named by BODY with the headers in HEADERS ("name: value" lines).
wrk.method = "POST"
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
for name, value in (os.getenv("HEADERS") or ""):gmatch("([%w-]+): ([^\n]+)") do
  wrk.headers[name] = value
end
