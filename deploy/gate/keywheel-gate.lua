-- Asks keywheel-gate whether a request may pass. Used by haproxy.cfg:
--     http-request lua.keywheel-gate ADDRESS:PORT HEADER,HEADER,…

-- What stays between the client and HAProxy, and what is said anew below. The body is not sent, so its headers are not.
local NOT_FOR_THE_GATE = {
    ["connection"] = true,
    ["content-length"] = true,
    ["expect"] = true,
    ["host"] = true,
    ["keep-alive"] = true,
    ["proxy-connection"] = true,
    ["te"] = true,
    ["trailer"] = true,
    ["transfer-encoding"] = true,
}

-- What clients have to see of a refusal.
local FOR_THE_CLIENT = { "www-authenticate", "dpop-nonce", "retry-after", "cache-control", "content-type" }

local TIMEOUT_MS = 15000

local function ask(txn, gate)
    local headers = {}
    for name, lines in pairs(txn.http:req_get_headers()) do
        if not NOT_FOR_THE_GATE[name] then
            headers[name] = {}
            -- Each line on its own: that a header was there twice is for the gate to judge.
            for index = 0, #lines do
                table.insert(headers[name], lines[index])
            end
        end
    end
    headers["x-original-method"] = { txn.sf:method() }
    -- The path and the query as they came, without the scheme and the host that HTTP/2 puts before them.
    headers["x-original-uri"] = { txn.sf:pathq() }
    return core.httpclient():get({
        url = "http://" .. gate .. "/verify",
        headers = headers,
        timeout = TIMEOUT_MS,
    })
end

local function pass(txn, answer, identity_headers)
    for name in identity_headers:gmatch("[^,]+") do
        txn.http:req_del_header(name)
        for _, value in pairs(answer.headers[name:lower()] or {}) do
            if value ~= "" then
                txn.http:req_add_header(name, value)
            end
        end
    end
    txn:set_var("txn.keywheel_gate_passed", true)
end

local function refuse(txn, answer)
    local reply = txn:reply()
    -- A gate that can't be reached, or has failed, is no verdict.
    local is_verdict = answer.status and answer.status >= 400 and answer.status < 500 or answer.status == 503
    reply:set_status(is_verdict and answer.status or 503)
    for _, name in ipairs(FOR_THE_CLIENT) do
        for _, value in pairs(is_verdict and answer.headers[name] or {}) do
            reply:add_header(name, value)
        end
    end
    if is_verdict and txn.sf:method() ~= "HEAD" then
        reply:set_body(answer.body)
    end
    txn:done(reply)
end

core.register_action("keywheel-gate", { "http-req" }, function(txn, gate, identity_headers)
    local answer = ask(txn, gate)
    if answer.status == 200 then
        pass(txn, answer, identity_headers)
    else
        refuse(txn, answer)
    end
end, 2)
