-- Sends each order of a file once. Arguments: file, bytes per request, first request, number of requests, threads.
-- Every thread has a slice of its own; a thread that comes to the end of it stops and says so, since an order sent
-- twice would be answered as a duplicate and flatter the figures. The last line printed is JSON for bench/load.py.

local threads = {}

function setup(thread)
   thread:set("slice", #threads)
   table.insert(threads, thread)
end

function init(args)
   local per_thread = math.floor(tonumber(args[4]) / tonumber(args[5]))
   bytes, left, is_exhausted = tonumber(args[2]), per_thread, false
   file = assert(io.open(args[1], "rb"))
   file:setvbuf("full", 1048576)
   file:seek("set", (tonumber(args[3]) + slice * per_thread) * bytes)
end

function request()
   if left == 0 then
      is_exhausted = true
      wrk.thread:stop()
      return "GET /out-of-orders HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
   end
   left = left - 1
   return file:read(bytes)
end

function done(summary, latency)
   local exhausted = 0
   for _, thread in ipairs(threads) do
      if thread:get("is_exhausted") then exhausted = exhausted + 1 end
   end
   local errors = summary.errors
   io.write(string.format(
      '{"answers":%d,"microseconds":%d,"p50":%d,"p99":%d,"most":%d,"refused":%d,"broken":%d,"late":%d,"exhausted":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect + errors.read + errors.write, errors.timeout, exhausted))
end
