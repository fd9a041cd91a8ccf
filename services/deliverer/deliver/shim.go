package deliver

func (o Outcome) SlowDown() bool { return o.Code == 429 || o.Code >= 502 && o.Code <= 504 }
